"""An OpenAI-compatible caching server in front of one teacher model."""

from teacher_service.app import create_app
from teacher_service.errors import SettingsError, StartError
from teacher_service.server import serve
from teacher_service.settings import Settings, load_settings

__all__ = ["Settings", "SettingsError", "StartError", "create_app", "load_settings", "serve"]
