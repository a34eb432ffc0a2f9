"""What can be built: layouts, blocks, spaces, costs, anchors and their export to ONNX. Knows no device."""
