"""Volumes: marked storage roots, and the safe ways in, through and out of them. Pure file system; knows no
store.
"""
