"""diffusers pipelines in and out: their folders as `Model`s, their networks behind our types (extra `[diffusers]`)."""
