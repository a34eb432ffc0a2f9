"""Layout -> ONNX graph without weights, plus the recipe from which a device writes the weights."""
