"""What a person can ask for, with no face: functions that return records. Command line, console and web page call them."""
