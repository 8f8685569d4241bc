"""A camera's RTSP server with a password: `rtsp_server.py PORT FILE`, H.264 in MP4, at /camera; for the system's Python, which has GStreamer."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main(port: str, file: str) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=port)
    factory = GstRtspServer.RTSPMediaFactory(shared=True)
    factory.set_launch(f'( filesrc location="{file}" ! qtdemux ! rtph264pay name=pay0 config-interval=1 )')
    token, auth, permissions = GstRtspServer.RTSPToken(), GstRtspServer.RTSPAuth(), GstRtspServer.RTSPPermissions()
    token.set_string("media.factory.role", "reader")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("reader", "secret"), token)
    for right in ("access", "construct"):
        permissions.add_permission_for_role("reader", f"media.factory.{right}", True)
    factory.set_permissions(permissions)
    server.set_auth(auth)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
