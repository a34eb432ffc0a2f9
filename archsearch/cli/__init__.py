"""The command line: `archsearch`. Data goes to stdout, progress and messages to stderr."""
