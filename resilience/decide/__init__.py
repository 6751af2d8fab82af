"""What should happen: functions and machines that take readings and return data.  No await, no clock, no chance."""
