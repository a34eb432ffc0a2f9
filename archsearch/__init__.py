"""The composition root: command line, study loop and store. Imports the other packages; nobody imports it."""
