"""What there is to say of a module before others get it.

Law: a finding is a matter of taste or of trust, and never prevents publishing. What nobody could load is an error.
"""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """Something that whoever publishes should know."""

    code: str  #: "docs-missing", "touches-files", ...: for programs
    detail: str  #: for people
