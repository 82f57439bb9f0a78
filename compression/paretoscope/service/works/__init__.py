"""The work of each study: functions of the workbench's knowledge, a Progress and the arguments of a request."""
