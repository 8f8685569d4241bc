"""Images and labels: sources, audit, split, cache, augmentation."""
