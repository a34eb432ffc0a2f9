"""Tests of search_space."""
