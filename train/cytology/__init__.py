"""Cytology: grades of cells in fine-needle aspirates, in a table; what its published accuracy is worth, and the model that is embedded."""
