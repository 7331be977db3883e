"""What the demo upstream says: one module per provider, its stream beside it as an `.sse` file with $placeholders.

All of it is made up; only the form is the providers'. Must not know listeners, timers or journals.
"""
