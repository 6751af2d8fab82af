"""What `Engine.using` takes, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import attrs

from resilience import settings
from resilience.policies.idempotency import checked_key, derived_key

if TYPE_CHECKING:
    from resilience.flow import Progress

__all__ = ["Using"]


def _header_value(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:  # noqa: ARG001 - a validator's shape
    checked_key(value, "using.key")


def _data(instance: Using, attribute: attrs.Attribute[Any], value: tuple[object, ...]) -> None:
    if not isinstance(value, tuple) or not value:
        raise settings.fail(instance, attribute, value, "a tuple of business data, such as ('order', 42)")
    if instance.key is not None:
        raise settings.fail(instance, attribute, value, "key or key_from, not both")
    try:
        derived_key("", value)
    except TypeError:
        raise settings.fail(instance, attribute, value, "parts that are str, int, bool, bytes, UUID, Decimal or date") from None


def _listed(value: Any) -> Any:
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value


def _verb(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value.isalpha():
        raise settings.fail(instance, attribute, value, "an HTTP method")


def _capitals(value: str | None) -> str | None:
    return value.upper() if isinstance(value, str) else value


def _name(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value:
        raise settings.fail(instance, attribute, value, "a non-empty str")


def _way_on(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value != "restart" and not callable(value):
        raise settings.fail(instance, attribute, value, "'restart', or a function from a Progress to the rest of the stream")


def _with_a_function(instance: Using, attribute: attrs.Attribute[Any], value: object) -> None:
    settings.flag(instance, attribute, value)
    if value and not callable(instance.resume):
        raise settings.fail(instance, attribute, value, "False, unless resume is a function to give the items to")


_optional = attrs.validators.optional


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Using:
    """
    The settings of a view, as `Engine.using` documents them.

    Raises:
        ValueError: A setting out of its range.
    """

    said_as = "using"

    deadline: float | None = attrs.field(validator=_optional(settings.positive))
    attempts: int | None = attrs.field(validator=_optional(settings.count))
    key: str | None = attrs.field(validator=_optional(_header_value))
    key_from: tuple[object, ...] | None = attrs.field(converter=_listed, validator=_optional(_data))
    method: str | None = attrs.field(converter=_capitals, validator=_optional(_verb))
    repeatable: bool | None = attrs.field(validator=_optional(settings.flag))
    operation: str | None = attrs.field(validator=_optional(_name))
    resume: Callable[[Progress], Any] | str | None = attrs.field(validator=_optional(_way_on))
    keep_items: bool | None = attrs.field(validator=_optional(_with_a_function))
