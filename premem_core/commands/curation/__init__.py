"""Commands that say which data to collect or to check, and that write data sets."""
