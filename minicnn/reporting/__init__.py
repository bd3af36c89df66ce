"""Results as text, tables and pages, for one run or for a study."""
