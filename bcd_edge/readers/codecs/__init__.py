"""Decoders of file formats, a module each: `matches(data)` by the first bytes, and `decode(data)` to upright uint8 RGB."""
