"""How results become text, tables and pages; nothing here knows a study."""
