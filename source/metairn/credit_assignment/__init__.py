"""Methods of credit assignment, one per file, behind one interface (assigner.CreditAssigner)."""
