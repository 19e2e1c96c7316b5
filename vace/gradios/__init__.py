"""The web pages: thin doors onto the verbs, for a browser. Gradio is imported by these modules alone."""
