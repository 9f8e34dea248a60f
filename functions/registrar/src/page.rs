//! The small pages that merchants see.
