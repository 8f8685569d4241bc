"""The data dictionary: every feature with its unit, definition and source. Tables, page and AnnData are written from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Group = Literal["nuclei", "tissue", "stain", "texture", "model", "technical"]

STAIN: Final = "Ruifrok & Johnston, Anal Quant Cytol Histol 2001; scikit-image rgb2hed"
NUCLEI: Final = (
    "haematoxylin by Ruifrok & Johnston 2001, threshold by Otsu 1979, watershed of the distance transform (Vincent & Soille 1991); scikit-image"
)
SHAPE: Final = "scikit-image regionprops"
GLCM: Final = "Haralick et al., IEEE Trans SMC 1973; scikit-image graycomatrix"
OURS: Final = "bcd-edge"


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of the table of features.

    Attributes:
        name: the column.
        group: what it is of; `technical` features describe the picture-taking, not the tissue.
        unit: of its values.
        definition: how it is measured.
        source: of the method.
        title: how it is called on the page.
        needs_scale: whether it is missing where the width of a pixel is not known, or is too coarse for nuclei.
    """

    name: str
    group: Group
    unit: str
    title: str
    definition: str
    source: str
    needs_scale: bool = False

    @property
    def label(self) -> str:
        """Of an axis: title and unit, where it has one."""
        return self.title if self.unit == "1" else f"{self.title}, {self.unit}"


FEATURES: Final = (
    Feature("nuclei_count", "nuclei", "nuclei", "Nuclei", "Number of nuclei in the picture, those at its border included.", NUCLEI, True),
    Feature(
        "nuclei_density",
        "nuclei",
        "1/mm²",
        "Density of nuclei",
        "Nuclei per area that is neither blank nor fat; missing below 0.002 mm².",
        NUCLEI,
        True,
    ),
    Feature(
        "nucleus_area_mean",
        "nuclei",
        "µm²",
        "Nuclear area",
        "Mean area of the nuclei that do not touch the border; as all means, of 5 or more.",
        SHAPE,
        True,
    ),
    Feature("nucleus_area_cv", "nuclei", "1", "Variation of nuclear area", "Standard deviation of their area by its mean.", SHAPE, True),
    Feature(
        "nucleus_eccentricity_mean",
        "nuclei",
        "0..1",
        "Nuclear eccentricity",
        "Mean eccentricity of the ellipse with a nucleus's second moments; 0 is a circle.",
        SHAPE,
        True,
    ),
    Feature(
        "nucleus_haematoxylin_mean",
        "nuclei",
        "OD",
        "Nuclear haematoxylin",
        "Mean over nuclei of the mean haematoxylin in each, in units of optical density (base 10) of the stain's vector.",
        STAIN,
        True,
    ),
    Feature(
        "nucleus_haematoxylin_cv", "nuclei", "1", "Variation of nuclear haematoxylin", "Standard deviation between nuclei by their mean.", STAIN, True
    ),
    Feature(
        "nuclei_spacing",
        "nuclei",
        "µm",
        "Spacing of nuclei",
        "Median distance from the centre of a nucleus to that of the nearest other one.",
        NUCLEI,
        True,
    ),
    Feature("nuclei_share", "nuclei", "0..1", "Tissue covered by nuclei", "Area of nuclei by area that is neither blank nor fat.", NUCLEI, True),
    Feature(
        "cell_rich_share",
        "tissue",
        "0..1",
        "Cell-rich tissue",
        "Share of the picture in which nuclei cover a fifth or more of the surroundings (Gaussian, 10 µm): epithelium, and infiltrates of "
        "lymphocytes, which it does not tell apart.",
        OURS,
        True,
    ),
    Feature(
        "stroma_share", "tissue", "0..1", "Cell-poor tissue (stroma)", "Share of the picture that is neither cell-rich, fat nor blank.", OURS, True
    ),
    Feature(
        "fat_share",
        "tissue",
        "0..1",
        "Round empty areas (fat)",
        "Share of the picture in empty areas of 20 to 150 µm diameter that fill 0.8 of their convex hull: fat cells, and round lumens, which it "
        "does not tell apart.",
        OURS,
        True,
    ),
    Feature("blank_share", "tissue", "0..1", "Other empty areas", "Share of the picture that is as bright as glass and not fat.", OURS, True),
    Feature("haematoxylin_mean", "stain", "OD", "Haematoxylin", "Mean haematoxylin of what is darker than glass.", STAIN),
    Feature("eosin_mean", "stain", "OD", "Eosin", "Mean eosin of what is darker than glass.", STAIN),
    *(
        Feature(
            f"texture_{name}_{distance}um",
            "texture",
            unit,
            f"Texture: {name}, {distance} µm",
            f"GLCM {name} of the optical density at 1 µm per pixel in 32 levels from 0 to 1, {distance} µm apart, mean of four directions.",
            GLCM,
            True,
        )
        for distance in (1, 4)
        for name, unit in (("contrast", "levels²"), ("correlation", "-1..1"), ("homogeneity", "0..1"))
    ),
    Feature("p_malignant", "model", "0..1", "p(malignant)", "The bundle's calibrated probability, as answered.", "the bundle's model card"),
    Feature("novelty", "model", "1", "Novelty", "How unlike the training pictures, from 0; above 1 the answer is review.", "bcd_edge.triage.novelty"),
    *(
        Feature(
            f"embedding_pc{number}",
            "model",
            "1",
            f"Embedding, component {number}",
            f"Score on principal component {number} of this cohort's embeddings: its sign and meaning are of this cohort alone.",
            "Pearson 1901; singular value decomposition by NumPy",
        )
        for number in (1, 2, 3)
    ),
    Feature("um_per_pixel", "technical", "µm", "Width of a pixel", "Of the file, as for bcd-edge predict.", OURS),
    Feature("field_mm2", "technical", "mm²", "Field of view", "Area that the picture shows.", OURS, True),
    Feature(
        "focus", "technical", "1", "Sharpness", "Energy of the finest detail beside coarser detail, at the network's size.", "bcd_edge.triage.quality"
    ),
    Feature("exposure", "technical", "0..1", "Brightness", "Brightness that 2 % of the pixels reach.", "bcd_edge.triage.quality"),
    Feature(
        "white_tint",
        "technical",
        "levels",
        "Tint of the brightest",
        "Red minus green, of 255, that 2 % of the pixels reach: 0 for grey glass; lamp, white balance and stain change it, and so does "
        "a field without glass.",
        OURS,
    ),
)
NAMES: Final = tuple(feature.name for feature in FEATURES)
BY_NAME: Final = {feature.name: feature for feature in FEATURES}
