"""Every text form once: tables, times, sizes, progress. No decision."""
