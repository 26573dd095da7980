@echo off
rem Windows: a running service on this machine. gunicorn does not run there; waitress does.
cd /d "%~dp0"
if not exist .venv\Scripts\waitress-serve.exe call setup.bat
if errorlevel 1 exit /b 1
.venv\Scripts\flask db upgrade
if errorlevel 1 exit /b 1
.venv\Scripts\python -m app
