"""The alert rules and the dashboard: about figures that there are, each rule tried, and read by a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from running import DEADLINE_SECONDS, REPOSITORY, free_port, system

from lms_core.testing import Lms

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
DASHBOARD = (REPOSITORY / "deploy" / "grafana" / "lms.json").read_text()
needs_prometheus = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs Debian's package prometheus")


def figures(text: str) -> set[str]:
    """The names of figures in expressions."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\blms_[a-z_]+", text)}


@pytest.mark.anyio
async def test_alerts_and_dashboard_name_figures_that_there_are(lms: Lms) -> None:
    shown = (await lms.client.get("/metrics")).text
    known = {line.split()[2] for line in shown.splitlines() if line.startswith("# TYPE ")}
    known |= {re.sub(r"_total$", "", name) for name in known}
    asked = figures(ALERTS) | {
        name for panel in json.loads(DASHBOARD)["panels"] for name in figures(str(panel["targets"]))
    }
    assert len(asked) > 20
    assert {name for name in asked if re.sub(r"_total$", "", name) not in known and name not in known} == set()


def test_every_alert_is_tried_and_has_a_paragraph_for_whoever_is_woken() -> None:
    alerts = re.findall(r"alert: (\w+)", ALERTS)
    tried = (PROMETHEUS / "alerts_test.yml").read_text()
    manual = (REPOSITORY / "docs" / "operations.md").read_text()
    assert len(alerts) > 10
    for alert in alerts:
        assert len(re.findall(rf"alertname: {alert}\b", tried)) >= 2, f"{alert} is tried neither on nor off"
        assert f"| `{alert}` |" in manual, f"{alert} is not explained"


@needs_prometheus
def test_the_rules_do_what_they_say() -> None:
    for command in (["check", "config", "--syntax-only", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_a_real_prometheus_reads_a_running_system(tmp_path: Path) -> None:
    with system(tmp_path / "data") as running:
        config = (PROMETHEUS / "prometheus.yml").read_text()
        token = tmp_path / "token"
        token.write_text("needed in production only")
        config = (
            config.replace("/run/secrets/lms_metrics_token", str(token))
            .replace("api:8000", running.url.removeprefix("http://"))
            .replace("15s", "1s")
            # The processes of `up` count together, and the API shows it.
            .replace(', "worker:9100", "relay:9100", "scheduler:9100"', "")
        )
        assert "9100" not in config
        (tmp_path / "prometheus.yml").write_text(config)
        shutil.copy(PROMETHEUS / "alerts.yml", tmp_path)
        port = free_port()
        command = [
            "prometheus",
            "--config.file=prometheus.yml",
            f"--storage.tsdb.path={tmp_path / 'series'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (tmp_path / "log").open("w") as log:
            prometheus = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
        try:
            asked = f"http://127.0.0.1:{port}/api/v1"
            assert value_of(asked, 'up{job="lms"}') == 1.0
            assert value_of(asked, 'lms_heartbeat_age_seconds{process="relay"}') < 30
            assert value_of(asked, 'lms_deliveries_total{outcome="done",handler="core.run_schedule"}') >= 1
            groups = httpx2.get(f"{asked}/rules").json()["data"]["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) > 10
            assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
            assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
        finally:
            prometheus.kill()
            prometheus.wait()


def value_of(asked: str, query: str) -> float:
    """As soon as there is one."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        try:
            found: list[Any] = httpx2.get(f"{asked}/query", params={"query": query}).json()["data"]["result"]
        except (httpx2.TransportError, ValueError, KeyError):
            # While it starts, it answers in words.
            found = []
        if found:
            return float(found[0]["value"][1])
        time.sleep(0.5)
    raise AssertionError(f"Prometheus has nothing for {query}")
