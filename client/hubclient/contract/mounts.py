"""Which file system a directory lies on, from ``/proc`` (proc_pid_mountinfo(5), proc_pid_fdinfo(5))."""

from __future__ import annotations

import os

# fmt: off
_NETWORK = frozenset((
    "9p", "acfs", "afp", "afs", "beegfs", "ceph", "cifs", "coda", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "vmhgfs", "weka", "wekafs",
))
_NETWORK_FUSE = frozenset((
    "blobfuse", "blobfuse2", "ceph", "cephfs", "curlftpfs", "davfs", "davfs2", "gcsfuse", "glusterfs", "goofys",
    "juicefs", "moosefs", "mfs", "nfs", "quobyte", "rclone", "s3fs", "seaweedfs", "smbnetfs", "sshfs",
    "vmhgfs-fuse", "weed",
))
# fmt: on


def file_system(directory: str) -> str:
    """The type of the file system that the directory lies on, as the kernel names it (``ext4``, ``fuse.sshfs``)."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
    finally:
        os.close(fd)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return type_of_mount(file.read(), int(fields["mnt_id"]))


def type_of_mount(mountinfo: str, mount_id: int) -> str:
    """The file system type of one mount; empty when the table does not have it."""
    for line in mountinfo.splitlines():
        mount, separator, rest = line.partition(" - ")
        if separator and mount.split(" ", 1)[0] == str(mount_id):
            return rest.split(" ", 1)[0]
    return ""


def is_network(file_system: str) -> bool:
    """Whether files on it live on another machine, so that locks and renames are not to be relied on."""
    kind, _, helper = file_system.partition(".")
    return kind in _NETWORK or (kind in ("fuse", "fuseblk") and helper in _NETWORK_FUSE)
