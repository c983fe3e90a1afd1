"""DHCP, iPXE and the installer ramdisk: from power-on to the node's own program."""
