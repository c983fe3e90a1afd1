"""SystemConfigurator: one node's record + facts + footprint → that node's own files, as values."""
