"""The sso plugin, as the core sees it."""

from datetime import timedelta

from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import USER

from lms_core.sdk import Cascade, Part, Permission, PluginInfo, ReadRule, Record, Router, Schedule, Service, hookimpl
from lms_sso import attempts
from lms_sso.models import Attempt, Domain, LinkedIdentity, Provider, SsoSession
from lms_sso.openid import OpenIdProviders
from lms_sso.router import router
from lms_sso.settings import SsoSettings

plugin = PluginInfo(
    "sso", "Single sign-on with OpenID Connect", requires=("auth", "institutions", "users"), settings=SsoSettings
)


@hookimpl
def lms_routes() -> list[Router]:
    """`/sso`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Record]]:
    """Five tables."""
    return [Provider, Domain, LinkedIdentity, Attempt, SsoSession]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Principals say whom their institutions trust; whose a domain is, super admins say."""
    return [
        Permission("sso.configure", "Set up single sign-on", roles=("principal",)),
        Permission("sso.claim_domains", "Say whose a domain of addresses is", roles=()),
        ReadRule(Provider, "sso.configure"),
        ReadRule(Domain, "sso.configure"),
    ]


@hookimpl
def lms_services() -> list[Service]:
    """What one process remembers of providers."""
    return [Service(OpenIdProviders, OpenIdProviders())]


@hookimpl
def lms_cascades() -> list[Cascade | Part]:
    """Both go with their institution; who somebody is at a provider is part of either."""
    return [
        Cascade(child=Provider, column="institution_id", parent=INSTITUTION),
        Cascade(child=Domain, column="institution_id", parent=INSTITUTION),
        Part(Attempt, "provider_id", "sso.provider"),
        Part(LinkedIdentity, "provider_id", "sso.provider"),
        Part(LinkedIdentity, "user_id", USER),
        Part(SsoSession, "identity_id", LinkedIdentity),
    ]


@hookimpl
def lms_schedules() -> list[Schedule]:
    """Nothing is kept for ever."""
    return [Schedule("sso.forget_attempts", timedelta(hours=6), attempts.forget_old)]
