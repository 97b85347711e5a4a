"""MetaIRN: learned, attention-based intrinsic rewards for temporal credit assignment."""
