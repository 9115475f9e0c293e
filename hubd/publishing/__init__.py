"""Modules for others to fetch and to read about: the host of `hubd host`, its pages, and the dashboard."""
