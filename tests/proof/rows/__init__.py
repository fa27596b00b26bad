"""The rows, by what they are about. Each module holds ROWS."""
