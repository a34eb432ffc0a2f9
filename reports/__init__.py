"""How results are shown. The input is a plain table; nothing else of the project is imported."""
