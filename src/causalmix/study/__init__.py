"""The whole loop on one machine: sweep, analysis, confirmation, table, report."""
