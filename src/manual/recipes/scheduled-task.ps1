# The Task Scheduler starts entra-auth-mcp as you when you sign in. The folder below holds
# entra-auth-mcp.exe and .env. Keep it in your profile: the token file there is protected by the
# access list that the profile's files inherit. The server itself does not protect it.

$folder = "$env:LOCALAPPDATA\entra-auth-mcp"
$action = New-ScheduledTaskAction -Execute "$folder\entra-auth-mcp.exe" -WorkingDirectory $folder
$trigger = New-ScheduledTaskTrigger -AtLogOn -User $env:USERNAME
$settings = New-ScheduledTaskSettingsSet -ExecutionTimeLimit 0 `
    -RestartCount 3 -RestartInterval (New-TimeSpan -Minutes 1) `
    -AllowStartIfOnBatteries -DontStopIfGoingOnBatteries
Register-ScheduledTask -TaskName entra-auth-mcp `
    -Action $action -Trigger $trigger -Settings $settings
