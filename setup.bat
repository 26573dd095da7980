@echo off
rem Windows: sets up what run.bat needs, in .venv. Needs Python 3.11 or newer, with its launcher (py) or on the PATH.
setlocal
set PYTHONUTF8=1
cd /d "%~dp0"
set PYTHON=python
py -3 -c "" >nul 2>nul
if "%errorlevel%"=="0" set PYTHON=py -3
%PYTHON% -c "import sys; sys.exit(sys.version_info < (3, 11))"
if not "%errorlevel%"=="0" goto old
if exist .venv\Scripts\python.exe goto packages
%PYTHON% -m venv .venv
if not "%errorlevel%"=="0" exit /b 1

:packages
.venv\Scripts\python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
if not "%errorlevel%"=="0" exit /b 1
copy /y requirements.txt .venv\installed-requirements.txt >nul
.venv\Scripts\python -m flask db upgrade
if not "%errorlevel%"=="0" exit /b 1
echo Ready. Start the service with run.bat
exit /b 0

:old
echo Python 3.11 or newer is needed and was not found.
exit /b 1
