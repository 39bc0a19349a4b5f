"""The platform: the enabled plugins, checked and put together once, at start; anything wrong refuses the start."""

from __future__ import annotations

import hmac
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy
import typer
from pydantic import BaseModel, ValidationError
from sqlalchemy import inspect
from sqlalchemy.exc import NoInspectionAvailable

from lms_core import hookspecs, kinds
from lms_core.config import PluginSettings, Settings, read_plugins_file
from lms_core.db import Table, complete_cascade, complete_foreign_keys, complete_table
from lms_core.errors import StartRefused
from lms_core.imports import Importer
from lms_core.permissions import Rules
from lms_core.routing import GuardedRoute, Router
from lms_core.types import (
    Authenticator,
    Cascade,
    Event,
    Extension,
    Handler,
    HealthCheck,
    Identity,
    Lifespan,
    Part,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    ReadThrough,
    Removal,
    RoleSource,
    Schedule,
    Service,
    Setup,
)
from lms_core.uow import Context

if TYPE_CHECKING:
    from alembic.script import Script

ENTRY_POINTS = "lms.plugins"
T = TypeVar("T")


@dataclass
class Plugin:
    """One enabled plugin: its module, what it says about itself, and its settings."""

    info: PluginInfo
    module: ModuleType
    settings: BaseModel | None
    routers: list[Router] = field(default_factory=list)
    models: list[type[Any]] = field(default_factory=list)
    permissions: list[Permission] = field(default_factory=list)
    commands: list[typer.Typer] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The first segment of its URLs."""
        return self.info.name

    @property
    def migrations(self) -> Path:
        """Where its lineage of migrations is."""
        return Path(str(self.module.__file__)).parent / "migrations"


@dataclass
class Platform:
    """Everything that the enabled plugins declared."""

    settings: Settings
    plugins: list[Plugin] = field(default_factory=list)
    kinds: kinds.Kinds = field(default_factory=kinds.Kinds)
    rules: Rules = field(init=False)
    services: dict[type[Any], object] = field(default_factory=dict)
    service_owners: dict[type[Any], str] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)
    handlers_of: dict[str, list[Handler]] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    importers: dict[str, Importer] = field(default_factory=dict)
    extensions: list[tuple[str, Extension]] = field(default_factory=list)
    health_checks: list[tuple[str, HealthCheck]] = field(default_factory=list)
    setups: list[Setup] = field(default_factory=list)
    lifespans: list[Lifespan] = field(default_factory=list)
    migrations: dict[str, tuple[Script, ...]] = field(default_factory=dict)
    settings_by_type: dict[type[Any], BaseModel] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rules = Rules(self.kinds)

    # What the running system asks

    def service(self, contract: type[T]) -> T:
        """The provider of a contract."""
        found = self.service_if_enabled(contract)
        if found is None:
            raise LookupError(
                f"No enabled plugin provides {contract.__name__}; enable one that does, or use `use_if_enabled`."
            )
        return found

    def service_if_enabled(self, contract: type[T]) -> T | None:
        """The provider of a contract, or None."""
        provider = self.services.get(contract)
        return provider if isinstance(provider, contract) else None

    def extensions_of(self, kind: type[T]) -> list[T]:
        """What the enabled plugins add to an extension point, in their order."""
        return [extension for _, extension in self.extensions if isinstance(extension, kind)]

    def plugin_settings(self, kind: type[T]) -> T:
        """A plugin's settings by their type."""
        found = self.settings_by_type[kind]
        if not isinstance(found, kind):
            raise LookupError(kind.__name__)
        return found

    def derived_key(self, purpose: str) -> bytes:
        """A key for one purpose, derived from the secret; knowing one says nothing about another."""
        return hmac.digest(self.settings.secret_key.encode(), purpose.encode(), sha256)

    async def authenticate(self, context: Context, token: str) -> Identity | None:
        """Who a bearer token speaks for; nobody when no enabled plugin knows tokens."""
        authenticator = self.service_if_enabled(Authenticator)
        return None if authenticator is None else await authenticator.authenticate(context, token)


def load_platform(settings: Settings) -> Platform:
    """Import, check and assemble the plugins that plugins.toml enables. Raises StartRefused with one sentence."""
    wanted = [one for one in read_plugins_file(Path(settings.plugins_file)) if one.enabled]
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    found = {one.name: import_plugin(one, installed) for one in wanted}
    platform = Platform(settings, in_order(found))
    platform.settings_by_type = {
        type(one.settings): one.settings for one in platform.plugins if one.settings is not None
    }
    registry = pluggy.PluginManager("lms")
    registry.add_hookspecs(hookspecs)
    for plugin in platform.plugins:
        registry.register(plugin.module, plugin.name)
        refuse_mistyped_hooks(registry, plugin.name)
    collect_core(platform)
    for name in ("lms_models", "lms_permissions", "lms_role_sources", "lms_cascades", "lms_services"):
        collect(platform, registry, name)
    for name in (
        "lms_routes",
        "lms_handlers",
        "lms_importers",
        "lms_extensions",
        "lms_schedules",
        "lms_health_checks",
        "lms_setup",
        "lms_commands",
    ):
        collect(platform, registry, name)
    collect(platform, registry, "lms_lifespan")
    for plugin in platform.plugins:
        for router in plugin.routers:
            check_router(platform, plugin, router)
    kinds.use(platform.kinds)
    return platform


def import_plugin(wanted: PluginSettings, installed: dict[str, EntryPoint]) -> Plugin:
    """Import an enabled plugin and validate its settings."""
    name = wanted.name
    if name not in installed:
        raise StartRefused(
            f"Plugin {name} is enabled in plugins.toml but not installed; install the package that has it, "
            f"or set enabled = false."
        )
    if not name.isalnum() or not name.islower():
        raise StartRefused(
            f"Plugin {name} needs a name of lower-case letters and digits alone, since its tables are <plugin>_<noun>; "
            f"rename it."
        )
    try:
        module = importlib.import_module(installed[name].value)
    except ImportError as error:
        raise StartRefused(f"Plugin {name} cannot be imported ({error}); install what it needs.") from error
    info = getattr(module, "plugin", None)
    if not isinstance(info, PluginInfo) or info.name != name:
        raise StartRefused(
            f"Plugin {name} has no `plugin = PluginInfo({name!r}, ...)` in {module.__name__}; add it under that name."
        )
    return Plugin(info, module, validated_settings(wanted, info))


def validated_settings(wanted: PluginSettings, info: PluginInfo) -> BaseModel | None:
    """The plugin's settings; unknown keys are refused."""
    if info.settings is None:
        if wanted.values:
            key = sorted(wanted.values)[0]
            raise StartRefused(f"Plugin {info.name} has no settings, but plugins.toml gives {key!r}; remove it.")
        return None
    unknown = sorted(set(wanted.values) - set(info.settings.model_fields))
    if unknown:
        known = ", ".join(sorted(info.settings.model_fields))
        raise StartRefused(f"Plugin {info.name} has no setting {unknown[0]!r}; correct it to one of: {known}.")
    try:
        return info.settings.model_validate(wanted.values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StartRefused(f"The setting {place} of plugin {info.name} is not usable: {first['msg']}.") from None


def in_order(found: dict[str, Plugin]) -> list[Plugin]:
    """Plugins after what they require; alphabetical where nothing else decides."""
    ordered: list[Plugin] = []
    visiting: list[str] = []

    def visit(name: str) -> None:
        if any(plugin.name == name for plugin in ordered):
            return
        if name in visiting:
            circle = " → ".join([*visiting[visiting.index(name) :], name])
            raise StartRefused(
                f"The plugins {circle} require each other in a circle; remove one of these requirements."
            )
        visiting.append(name)
        for required in sorted(found[name].info.requires):
            if required not in found:
                raise StartRefused(
                    f"Plugin {name} requires the plugin {required}, which is not enabled; "
                    f"enable {required} in plugins.toml or switch {name} off."
                )
            visit(required)
        visiting.pop()
        ordered.append(found[name])

    for name in sorted(found):
        visit(name)
    return ordered


def refuse_mistyped_hooks(registry: pluggy.PluginManager, name: str) -> None:
    """A hook that the core does not know would never be called."""
    try:
        registry.check_pending()
    except pluggy.PluginValidationError as error:
        known = ", ".join(sorted(hook for hook in vars(hookspecs) if hook.startswith("lms_")))
        raise StartRefused(
            f"Plugin {name} implements an unknown hook ({error}); correct it to one of: {known}."
        ) from None


def collect_core(platform: Platform) -> None:
    """What the core itself brings: its handlers, schedules and permissions."""
    from lms_core.audit_routes import READ_AUDIT
    from lms_core.core_work import CORE_HANDLERS, CORE_SCHEDULES
    from lms_core.legal_holds import HOLD

    for handler in CORE_HANDLERS:
        add_handler(platform, "core", handler)
    for permission in (READ_AUDIT, HOLD):
        platform.rules.permissions[permission.name] = permission
    for schedule in CORE_SCHEDULES:
        platform.schedules[schedule.name] = schedule


def collect(platform: Platform, registry: pluggy.PluginManager, hook: str) -> None:
    """Call one hook, plugin by plugin in their order, and take in what each returns."""
    for plugin in platform.plugins:
        others = [other.module for other in platform.plugins if other is not plugin]
        caller = registry.subset_hook_caller(hook, others)
        answers = caller()
        if hasattr(plugin.module, hook) and not answers:
            raise StartRefused(
                f"The hook {hook} of plugin {plugin.name} returns nothing; add the return, or remove it."
            )
        for answer in answers:
            if not isinstance(answer, (list, tuple)):
                raise StartRefused(f"The hook {hook} of plugin {plugin.name} must return a list; correct it.")
            for value in answer:
                take(platform, plugin, hook, value)


def take(platform: Platform, plugin: Plugin, hook: str, value: Any) -> None:
    """Take in one declared value."""
    name = plugin.name
    if hook == "lms_models":
        add_model(platform, plugin, value)
    elif hook == "lms_routes" and isinstance(value, Router):
        plugin.routers.append(value)
    elif hook == "lms_permissions" and isinstance(value, Permission):
        require_prefix(name, "permission", value.name, ".")
        platform.rules.permissions[value.name] = value
        plugin.permissions.append(value)
    elif hook == "lms_permissions" and isinstance(value, ReadRule):
        platform.rules.read_rules.setdefault(kinds.kind_name(value.model), []).append(value)
        platform.kinds.of(value.model).rules.append(value)
    elif hook == "lms_permissions" and isinstance(value, ReadThrough):
        require_prefix(name, "permission", value.permission, ".")
        if value.kind not in platform.kinds.by_name:
            raise StartRefused(
                f"Plugin {name} declares who reads {value.kind}, which no enabled plugin has; "
                f"add the plugin that owns it to `requires` or correct the name."
            )
        platform.rules.reads_through.setdefault(value.kind, []).append(value)
    elif hook == "lms_role_sources" and isinstance(value, RoleSource):
        require_prefix(name, "role source", value.name, ".")
        platform.rules.sources.append(value)
    elif hook == "lms_services" and isinstance(value, Service):
        add_service(platform, name, value)
    elif hook == "lms_handlers" and isinstance(value, Handler):
        require_prefix(name, "handler", value.name, ".")
        add_handler(platform, name, value)
    elif hook == "lms_importers" and isinstance(value, Importer):
        require_prefix(name, "importer", value.name, ".")
        platform.importers[value.name] = value
    elif hook == "lms_extensions" and isinstance(value, Extension):
        add_extension(platform, name, value)
    elif hook == "lms_schedules" and isinstance(value, Schedule):
        require_prefix(name, "schedule", value.name, ".")
        platform.schedules[value.name] = value
    elif hook == "lms_cascades" and isinstance(value, Cascade):
        platform.kinds.add_cascade(name, value)
        if issubclass(value.child, Table):
            complete_cascade(value.child, value.column)
    elif hook == "lms_cascades" and isinstance(value, Reaction):
        platform.kinds.add_reaction(name, value)
    elif hook == "lms_cascades" and isinstance(value, Part):
        platform.kinds.add_part(name, value)
    elif hook == "lms_cascades" and isinstance(value, Removal):
        platform.kinds.of(value.model).removal = value
    elif hook == "lms_health_checks" and isinstance(value, HealthCheck):
        platform.health_checks.append((name, value))
    elif hook == "lms_setup" and isinstance(value, Setup):
        platform.setups.append(value)
    elif hook == "lms_commands" and isinstance(value, typer.Typer):
        plugin.commands.append(value)
    elif hook == "lms_lifespan" and callable(value):
        platform.lifespans.append(value)
    else:
        hint = "use lms_core.sdk.Router, whose routes are guarded" if hook == "lms_routes" else "see lms_core.hookspecs"
        raise StartRefused(f"The hook {hook} of plugin {name} returns a {type(value).__name__}; {hint}.")


def require_prefix(plugin: str, what: str, name: str, separator: str) -> None:
    """Names say whose they are."""
    if not name.startswith(plugin + separator):
        raise StartRefused(
            f"Plugin {plugin} declares the {what} {name!r} without its prefix; name it {plugin}{separator}<name>."
        )


def add_model(platform: Platform, plugin: Plugin, model: Any) -> None:
    """A table of this plugin; a soft-deletable one becomes a kind."""
    try:
        table = inspect(model).local_table
    except NoInspectionAvailable:
        raise StartRefused(
            f"Plugin {plugin.name} declares {model!r} as a table, but it is none; give it table=True."
        ) from None
    require_prefix(plugin.name, "table", table.name, "_")
    plugin.models.append(model)
    complete_foreign_keys(table)
    if issubclass(model, Table):
        complete_table(model)
        platform.kinds.add_model(model)
        if model.label_column not in table.columns:
            raise StartRefused(
                f"Plugin {plugin.name}: {model.__name__}.label_column names {model.label_column!r}, "
                f"which is no column; correct it."
            )
        if model.renamed_column is not None and model.renamed_column not in model.natural_key:
            raise StartRefused(
                f"Plugin {plugin.name}: {model.__name__}.renamed_column names {model.renamed_column!r}, "
                f"which is not part of its natural_key; correct it."
            )
    if not plugin.migrations.is_dir():
        raise StartRefused(
            f"Plugin {plugin.name} has tables but no migrations in {plugin.migrations}; "
            f"make the folder and run `lms db revision {plugin.name} first`."
        )


def add_service(platform: Platform, plugin: str, service: Service) -> None:
    """A contract has one provider."""
    if service.contract in platform.services:
        other = platform.service_owners[service.contract]
        raise StartRefused(
            f"The plugins {other} and {plugin} both provide {service.contract.__name__}; switch one of them off."
        )
    if not isinstance(service.provider, service.contract):
        raise StartRefused(
            f"Plugin {plugin} provides {service.contract.__name__} with a {type(service.provider).__name__}, "
            f"which does not inherit from it; correct it."
        )
    platform.services[service.contract] = service.provider
    platform.service_owners[service.contract] = plugin


def add_extension(platform: Platform, plugin: str, extension: Extension) -> None:
    """No two extensions of one class claim the same."""
    for other, taken in platform.extensions:
        twice = sorted(taken.claims() & extension.claims()) if type(taken) is type(extension) else []
        if twice:
            raise StartRefused(
                f"The plugins {other} and {plugin} both declare the {type(extension).__name__} {twice[0]}; "
                f"switch one of them off."
            )
    platform.extensions.append((plugin, extension))


def add_handler(platform: Platform, plugin: str, handler: Handler) -> None:
    """Handler names are stored with deliveries, so each is unique."""
    if handler.name in platform.handlers:
        raise StartRefused(f"Plugin {plugin} declares the handler {handler.name} twice; rename one.")
    if not (issubclass(handler.event, Event) and handler.event.event_name.count(".") == 2):
        raise StartRefused(
            f"Plugin {plugin} handles {handler.event.__name__}, which is not named <plugin>.<what_happened>.v1; name it."
        )
    if handler.order_by is not None and handler.order_by not in handler.event.model_fields:
        raise StartRefused(
            f"Plugin {plugin}: the handler {handler.name} is ordered by {handler.order_by}, "
            f"which {handler.event.__name__} does not have; correct the name."
        )
    platform.handlers[handler.name] = handler
    platform.handlers_of.setdefault(handler.event.event_name, []).append(handler)


def check_router(platform: Platform, plugin: Plugin, router: Router) -> None:
    """Every route declares a guard, and its permission and kind exist."""
    for route in routes_of(router):
        methods = "/".join(sorted(route.methods or ()))
        where = f"{methods} /{plugin.name}{route.path}"
        guard = route.guard
        if guard is None:
            raise StartRefused(
                f"Plugin {plugin.name}: the route {where} declares neither a permission nor that it is public; "
                f"add requires(...), reads(...), signed_in(...) or public(...) to its dependencies."
            )
        if guard.permission is not None and guard.permission not in platform.rules.permissions:
            raise StartRefused(
                f"Plugin {plugin.name}: the route {where} requires the permission {guard.permission!r}, "
                f"which no enabled plugin declares; declare it in lms_permissions."
            )
        if guard.place and guard.parameter not in parameters_of(route, guard.place):
            raise StartRefused(
                f"Plugin {plugin.name}: the guard of {where} looks for {guard.parameter!r} in the {guard.place}, where the "
                f"route has no such parameter; name one of: {', '.join(sorted(parameters_of(route, guard.place)))}."
            )
        if guard.on is not None and platform.kinds.find(guard.on) is None:
            raise StartRefused(
                f"Plugin {plugin.name}: the route {where} checks a permission on {guard.on!r}, which is no kind; "
                f"correct it to one of: {', '.join(platform.kinds.by_name)}."
            )


def parameters_of(route: GuardedRoute, place: str) -> set[str]:
    """The names of a route's parameters in its path, query or JSON body."""
    if place == "body":
        model = None if route.body_field is None else route.body_field.field_info.annotation
        return set(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else set()
    if place == "path":
        return set(route.param_convertors)
    found: set[str] = set()
    waiting = [route.dependant]
    while waiting:
        dependant = waiting.pop()
        found |= {parameter.alias for parameter in dependant.query_params}
        waiting += dependant.dependencies
    return found


def routes_of(router: Router) -> Iterable[GuardedRoute]:
    """The routes of a router; one that FastAPI alone made (a mount, a web socket) cannot be guarded."""
    for route in router.routes:
        if not isinstance(route, GuardedRoute):
            raise StartRefused(
                f"The route {getattr(route, 'path', route)} is a {type(route).__name__}; "
                f"add routes with the decorators of lms_core.sdk.Router."
            )
        yield route
