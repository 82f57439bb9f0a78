"""The revision of the methods: measurements of another one do not hold for this one."""

# Raised by whoever changes what a recipe makes of a network (the codes that a method chooses, the network that
# simplifying leaves, the repair), what a file of it takes, or how a figure is measured or timed. Stored beside each
# record, timing and study: those of another revision stay in the file, are counted on the screen, and are measured
# again when they are asked for. It has no say in how files decode, nor in which trained models are found.
METHODS = 5
