"""What the tier was good for, since the daemon began.

Law: each question counts once, by how it ended.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Figures:
    """`waited`: of all questions, those that waited for another machine; `taken_over`: of what was `claimed`, what
    another machine had claimed before, which is gone, has failed or is in no hurry. `uploaded`: archives, those of
    pushes included.
    """

    found: int = 0
    waited: int = 0
    claimed: int = 0
    taken_over: int = 0
    alone: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0
