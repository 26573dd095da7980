"""Pure functions over bytes. Knows no table, no request, no clock."""
