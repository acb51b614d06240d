#!/bin/bash
# stands where strace does: drops its "-o FILE" and runs the rest
shift 2; exec "$@"
