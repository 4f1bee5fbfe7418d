"""Who is who: keys, certificates, invitations and signed updates."""
