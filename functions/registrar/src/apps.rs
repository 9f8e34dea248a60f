//! Installing and uninstalling apps at platforms: what comes below `/apps/{platform}/`.
