"""How closely the codec reproduces sounds."""
