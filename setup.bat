@echo off
rem Windows: sets up what run.bat needs. Needs Python 3.11 or newer.
cd /d "%~dp0"
where py >nul 2>nul
if %errorlevel%==0 (set PYTHON=py -3) else (set PYTHON=python)
%PYTHON% -c "import sys; sys.exit(sys.version_info < (3, 11))"
if errorlevel 1 (
    echo Python 3.11 or newer is needed and was not found.
    exit /b 1
)
if not exist .venv\Scripts\python.exe %PYTHON% -m venv .venv
if errorlevel 1 exit /b 1
.venv\Scripts\python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
if errorlevel 1 exit /b 1
.venv\Scripts\flask db upgrade
if errorlevel 1 exit /b 1
echo Ready. Start the service with run.bat
