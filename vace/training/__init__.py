"""What the embedded model `vace-tiny` is trained and judged on."""
