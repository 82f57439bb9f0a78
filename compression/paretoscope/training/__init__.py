"""Recovery: training that wins back accuracy, within what a recipe can represent."""
