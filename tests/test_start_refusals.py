"""Whatever is wrong with a plugin stops the start, with one sentence that names the plugin and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from installed import environment, lms, write_plugin

from lms_core.config import load_settings

HEAD = """
from uuid import UUID
from fastapi import APIRouter
from pydantic import BaseModel
from lms_core.sdk import *
plugin = PluginInfo("planted", "Planted by a test")
"""
ENABLED = "[plugins.planted]\nenabled = true\n"

CASES = {
    "mistyped hook": ("@hookimpl\ndef lms_ruotes(): return []", ["lms_ruotes", "lms_routes"]),
    "unguarded route": (
        "router = Router()\n@router.get('')\nasync def look(): return {}\n@hookimpl\ndef lms_routes(): return [router]",
        ["GET /planted", "neither a permission nor that it is public", "requires(...)"],
    ),
    "router of FastAPI itself": ("@hookimpl\ndef lms_routes(): return [APIRouter()]", ["lms_core.sdk.Router"]),
    "table without its prefix": (
        "class Thing(Table, table=True):\n    __tablename__ = 'thing'\n@hookimpl\ndef lms_models(): return [Thing]",
        ["'thing'", "planted_<name>"],
    ),
    "permission without its prefix": (
        "@hookimpl\ndef lms_permissions(): return [Permission('do.it', 'Do it')]",
        ["'do.it'", "planted.<name>"],
    ),
    "unknown permission at a route": (
        "router = Router()\n@router.get('', dependencies=[reads('planted.look')])\nasync def look(): return {}\n"
        "@hookimpl\ndef lms_routes(): return [router]",
        ["'planted.look'", "lms_permissions"],
    ),
    "two providers of one contract": (
        "class A: pass\n@hookimpl\ndef lms_services(): return [Service(A, A()), Service(A, A())]",
        ["both provide A", "switch one of them off"],
    ),
    "cascade under nothing": (
        "class Thing(Table, table=True):\n    __tablename__ = 'planted_thing'\n    thing_id: UUID\n"
        "@hookimpl\ndef lms_models(): return [Thing]\n"
        "@hookimpl\ndef lms_cascades(): return [Cascade(child=Thing, column='thing_id', parent='no.thing')]",
        ["no.thing", "`requires`"],
    ),
    "guard on a parameter that is not there": (
        "router = Router()\n@router.get('/{thing_id}', dependencies=[requires('planted.look', on='thing', path='id')])\n"
        "async def look(thing_id: UUID): return {}\n"
        "class Thing(Table, table=True):\n    __tablename__ = 'planted_thing'\n"
        "@hookimpl\ndef lms_models(): return [Thing]\n"
        "@hookimpl\ndef lms_permissions(): return [Permission('planted.look', 'Look')]\n"
        "@hookimpl\ndef lms_routes(): return [router]",
        ["'id'", "thing_id"],
    ),
    "rows of nothing read through something": (
        "@hookimpl\ndef lms_permissions(): return [ReadThrough('no.thing', 'planted.look', lambda thing: thing.id == thing.id)]",
        ["no.thing", "`requires`"],
    ),
    "hook that returns nothing": ("@hookimpl\ndef lms_routes(): Router()", ["lms_routes", "returns nothing"]),
    "cascade of a table that is not declared": (
        "class Thing(Table, table=True):\n    __tablename__ = 'planted_thing'\n"
        "class Part(Table, table=True):\n    __tablename__ = 'planted_part'\n    thing_id: UUID\n"
        "@hookimpl\ndef lms_models(): return [Thing]\n"
        "@hookimpl\ndef lms_cascades(): return [Cascade(child=Part, column='thing_id', parent='planted.thing')]",
        ["Part", "lms_models"],
    ),
    "no PluginInfo": ("del plugin", ["PluginInfo('planted', ...)"]),
}


@pytest.mark.parametrize("name", CASES)
def test_planted_mistakes_refuse_the_start(tmp_path: Path, name: str) -> None:
    source, expected = CASES[name]
    write_plugin(tmp_path, "planted", HEAD + source)
    result = lms(environment(tmp_path, ENABLED), "plugins")
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "planted" in result.stderr
    for part in expected:
        assert part in result.stderr


TOML_CASES = {
    "not installed": ("[plugins.nowhere]\nenabled = true\n", ["nowhere", "not installed"]),
    "missing requirement": (
        ENABLED + "[plugins.courses]\nenabled = true\n",
        ["courses requires the plugin institutions", "enable"],
    ),
    "unknown key": (ENABLED + "colour = 'red'\n", ["planted", "'colour'"]),
    "unknown table": ("[plugin.planted]\nenabled = true\n", ["'plugin'"]),
    "not TOML": ("[plugins.planted\n", ["not valid TOML"]),
}


@pytest.mark.parametrize("name", TOML_CASES)
def test_mistakes_in_plugins_toml_refuse_the_start(tmp_path: Path, name: str) -> None:
    toml, expected = TOML_CASES[name]
    write_plugin(tmp_path, "planted", HEAD)
    result = lms(environment(tmp_path, toml), "plugins")
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for part in expected:
        assert part in result.stderr


def test_a_circle_of_requirements_refuses_the_start(tmp_path: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        write_plugin(
            tmp_path, name, f"from lms_core.sdk import *\nplugin = PluginInfo('{name}', '', requires=('{other}',))"
        )
    result = lms(environment(tmp_path, "[plugins.one]\nenabled = true\n[plugins.two]\nenabled = true\n"), "plugins")
    assert result.returncode == 2
    assert "one → two → one" in result.stderr


def test_a_plugin_whose_tables_would_be_another_ones_refuses_the_start(tmp_path: Path) -> None:
    write_plugin(tmp_path, "peer_review", HEAD.replace('"planted"', '"peer_review"'))
    result = lms(environment(tmp_path, "[plugins.peer_review]\nenabled = true\n"), "plugins")
    assert result.returncode == 2
    assert "peer_review needs a name" in result.stderr


def test_what_is_not_enabled_is_never_imported(tmp_path: Path) -> None:
    write_plugin(tmp_path, "planted", "raise SystemExit('imported')")
    result = lms(environment(tmp_path, "[plugins.planted]\nenabled = false\n"), "plugins")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


SAFE = {"LMS_ENV": "production", "LMS_SECRET_KEY": "x" * 32}


def test_production_starts_with_what_is_safe(tmp_path: Path) -> None:
    write_plugin(tmp_path, "planted", HEAD)
    origins = "https://front.example, http://127.0.0.1:8080,capacitor://localhost"
    assert lms(environment(tmp_path, ENABLED, **SAFE, LMS_CORS_ORIGINS=origins), "plugins").returncode == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"LMS_SECRET_KEY": ""}, "LMS_SECRET_KEY"),
        ({"LMS_SECRET_KEY": "short"}, "LMS_SECRET_KEY"),
        ({"LMS_DEBUG": "true"}, "LMS_DEBUG"),
        ({"LMS_CORS_ORIGINS": "*"}, "LMS_CORS_ORIGINS"),
        ({"LMS_CORS_ORIGINS": "https://front.example, https://other.example/"}, "'https://other.example/'"),
        ({"LMS_CORS_ORIGINS": "front.example"}, "'front.example'"),
        ({"LMS_DATABASE_POOL": "many"}, "LMS_DATABASE_POOL"),
        ({"LMS_DATABASE_URL": "mysql://x/y"}, "LMS_DATABASE_URL"),
        ({"LMS_REDIS_URL": "http://x"}, "redis://host:6379/0"),
        ({"LMS_SMTP_URL": "foo://bar"}, "smtp://user:password@mail.example.org:587"),
        ({"LMS_PUBLIC_URL": "notaurl"}, "https://lms.example.org"),
        ({"LMS_TRUSTED_PROXIES": "foo"}, "LMS_TRUSTED_PROXIES has 'foo'"),
        ({"LMS_INTERNAL_NETWORKS": "10.0.0.1/8"}, "10.0.0.1/8 has host bits set"),
        ({"LMS_SECRETS": "/nowhere/at/all"}, "/nowhere/at/all, which is no folder"),
    ],
)
def test_production_refuses_what_is_unsafe(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    write_plugin(tmp_path, "planted", HEAD)
    result = lms(environment(tmp_path, ENABLED, **SAFE) | changes, "plugins")
    assert result.returncode == 2
    assert expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_secret_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As container engines and systemd give them; the environment goes first."""
    (tmp_path / "lms_secret_key").write_text("from a file, and thirty-two bytes long\n")
    monkeypatch.setenv("LMS_SECRETS", str(tmp_path))
    monkeypatch.delenv("LMS_SECRET_KEY", raising=False)
    assert load_settings().secret_key == "from a file, and thirty-two bytes long"
    monkeypatch.setenv("LMS_SECRET_KEY", "from the environment")
    assert load_settings().secret_key == "from the environment"
