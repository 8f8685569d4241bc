"""What is seen in the tissue beside what became of the patients: features of pictures, their association with a clinical table, a report.

For research, by the extra `research`. `features.measure` measures a picture, `extract` a collection into a table, `clinical` reads and joins the
patients' table, `associations` compares the two with the patient as the unit, and `report` writes the page and the files beside it.
"""
