"""What tests in a browser share beside their fixtures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from playwright.async_api import Page

#: A tab that nobody used; options are those of Playwright's `new_context`.
OpenTab = Callable[..., Awaitable[Page]]
