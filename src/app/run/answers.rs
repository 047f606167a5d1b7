//! Which answer each request has.

use super::door::{Listener, Perform};
use super::passed::{Passed, PerformWith};
use crate::api::{Request, Response};
use crate::app::error::AppResult;
use crate::app::instance::Lazy;

/// Performs a request of any kind.
macro_rules! answers {
    ({ $($request:ident => $response:ident,)* } with what is passed { $($passed:ident => $answer:ident,)* }) => {
        impl PerformWith for Request {
            type Answer = Response;

            fn perform(
                self,
                mut lazy: Lazy,
                passed: &Passed<'_>,
                listener: &mut dyn Listener,
            ) -> AppResult<Response> {
                Ok(match self {
                    $(Request::$request(request) => Response::$response(request.perform(lazy.app()?, listener)?),)*
                    $(Request::$passed(request) => Response::$answer(request.perform(lazy, passed, listener)?),)*
                })
            }
        }
    };
}

answers! {{
    ListContainers => Containers,
    ShowContainer => Container,
    LaunchContainer => Name,
    StartContainer => Changed,
    StopContainer => Changed,
    RestartContainer => Changed,
    PauseContainer => Changed,
    ResumeContainer => Changed,
    WaitForContainer => Done,
    DeleteContainer => Changed,
    RenameContainer => Done,
    WatchContainers => Done,
    MeasureContainers => Loads,
    ListStarts => Starts,
    StopAll => Failed,
    ShowConfig => Config,
    SetConfig => Pending,
    UnsetConfig => Pending,
    ExpandConfig => Values,
    DiffConfig => ConfigDifferences,
    ExportConfig => Text,
    ImportConfig => Pending,
    ListProfiles => Profiles,
    ShowProfile => Profile,
    CreateProfile => Done,
    SetProfile => Waiting,
    AddProfileDevice => Waiting,
    SetProfileDevice => Waiting,
    RemoveProfileDevice => Waiting,
    ExportProfile => Text,
    ImportProfile => Waiting,
    RenameProfile => Done,
    CopyProfile => Done,
    DeleteProfile => Done,
    AssignProfiles => Pending,
    AddProfile => Pending,
    RemoveProfile => Pending,
    PlanFleet => Steps,
    ApplyProfiles => Waiting,
    ApplyMachine => Pending,
    ListDevices => Devices,
    AddDevice => Device,
    SetDevice => Device,
    RemoveDevice => Done,
    ListNetworks => Networks,
    ShowNetwork => Network,
    CreateNetwork => Line,
    SetNetwork => NetworkChanged,
    DeleteNetwork => Done,
    RepairNetworks => Lines,
    ListOperations => Operations,
    ShowOperation => Operation,
    CreateSnapshot => Made,
    ListSnapshots => Snapshots,
    ShowSnapshot => Snapshot,
    RestoreSnapshot => Done,
    RenameSnapshot => Done,
    ExpireSnapshot => Done,
    DeleteSnapshots => Done,
    RunSchedule => Scheduled,
    ListSchedules => Schedules,
    CopyContainer => Made,
    RebuildContainer => Line,
    OptimizeContainer => Merged,
    CompareContainer => Differences,
    PublishContainer => Template,
    ListTemplates => Templates,
    ShowTemplate => Template,
    ListRecipes => Recipes,
    BuildTemplate => Template,
    DeleteTemplate => Done,
    ListForwards => Forwards,
    AddForward => Lines,
    RemoveForward => Done,
    ListRules => Rules,
    AddRule => Done,
    RemoveRule => Line,
    SetDefaults => Done,
    ListSets => Sets,
    CreateSet => Done,
    AddToSet => Done,
    RemoveFromSet => Done,
    DeleteSet => Done,
    ListGroups => Groups,
    CreateGroup => Done,
    DeleteGroup => Done,
    JoinGroup => Done,
    LeaveGroup => Done,
    ListBlocks => Blocks,
    AddBlocks => Done,
    RemoveBlocks => Removed,
    ExportPolicy => Policy,
    CheckPolicy => Lines,
    ApplyPolicy => Lines,
    ConfirmPolicy => Done,
    TracePacket => Line,
    RepairFirewall => Done,
} with what is passed {
    RunProgram => Program,
    AttachConsole => Console,
    ShowLog => Done,
    ImportTemplate => Template,
    PushFiles => Transferred,
    PullFiles => Transferred,
    WriteFile => Transferred,
    ReadFile => Transferred,
    ListFiles => Files,
    DeleteFile => Changed,
    ArchiveDifferences => Archived,
}}
