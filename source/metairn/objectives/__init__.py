"""What is optimised: pure torch functions of tensors, which mutate none of their inputs."""
