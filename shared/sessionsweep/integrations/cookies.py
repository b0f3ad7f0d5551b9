"""A cookie read from the raw field: by its exact name, as browsers know it."""

from __future__ import annotations


def cookie_value(field: str, name: str) -> str | None:
    """The value of the first cookie of that name; None where there is none.

    Only blanks and tabs are stripped: to a browser a name with another blank before it has no `__Host-` prefix, and any
    subdomain may set it.
    """
    for part in field.split(";"):
        found, equals, value = part.strip(" \t").partition("=")
        if found == name and equals:
            return value.strip('"')
    return None
