"""What is looked at before hours are spent: this machine, the data, a generated set, the recipe as a whole."""
